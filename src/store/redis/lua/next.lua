-- A number above all others.
as_primary()
return number(1)
