"""What travels: calls, rejections, counts, identities and rows. Nothing here knows Beam."""
