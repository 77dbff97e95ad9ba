"""The PanDA client against a scripted server, its pure parts by law, and all of it against the lab."""
