"""Parts of the gateway 移动支付中心 (医保移动支付): how messages are sealed, and what its transactions say."""
