"""The PanDA client, its credentials, and the spool."""
