-- Asks for a turn. now, instance, resource, token, name
if not lives(ARGV[4]) then return lapsed_myself() end
return take(ARGV[5], ARGV[6], ARGV[4], ARGV[7], tonumber(ARGV[3]))
