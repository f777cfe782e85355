"""What the DBA's tools do (`his160 mapping …`): functions that return records; nothing is printed here."""
