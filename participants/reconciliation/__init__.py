"""Two banks find out where their books differ, with traffic proportional to the differences."""
