"""The scheme: the members' kit (`federation`), the clearing house (`coordinator`), the settlement agent (`agent`)."""
