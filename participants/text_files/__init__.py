"""Files of text that people and banks hand over: what holds them, their records, columns and amounts."""
