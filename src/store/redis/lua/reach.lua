-- Whether a step would be taken.
as_primary()
return 1
