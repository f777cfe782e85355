"""Parts of the gateway WeChat Pay v3: keys, trades, mixed trades, bills, what its errors mean."""
