"""The History page: runs that have ended, newest first."""
