"""Keys, signatures and ciphers of payment houses and insurance platforms: RSA, AES-GCM, SM2, SM3, SM4."""
