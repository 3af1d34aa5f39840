-- Ends a turn. resource, token, rest
as_primary()
end_turn(ARGV[3], ARGV[4], tonumber(ARGV[5]))
return 1
