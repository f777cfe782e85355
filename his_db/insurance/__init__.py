"""Parts of the gateway 国标医保 2.0: envelope, sign-in, refusals, transactions."""
