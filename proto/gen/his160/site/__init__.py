"""Generated from proto/his160. Do not edit."""
