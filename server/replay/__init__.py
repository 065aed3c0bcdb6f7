"""One real year of a grocery chain, sent through real registers' connections to a server of its own."""
