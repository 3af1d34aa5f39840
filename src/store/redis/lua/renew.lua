-- An instance lives on. itself or nothing, its next life, for how long
as_primary()
return keep_alive(ARGV[3], ARGV[4], tonumber(ARGV[5]))
