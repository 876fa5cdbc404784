"""The scheme: the kit every member runs (`federation`), the clearing house (`coordinator`) and the settlement agent (`agent`)."""
