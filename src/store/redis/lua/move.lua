-- Moves a minted version without a record. now, resource, to, when later, where to later, whether it ends the rest
move(ARGV[4], tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1')
return 1
