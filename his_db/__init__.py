"""The room that speaks SQL and HIS vendors: engines, the mapping language, one canonical operation at a time."""
