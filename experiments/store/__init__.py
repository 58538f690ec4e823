"""What has been made: artifacts, what they were made by, and what a store holds."""
