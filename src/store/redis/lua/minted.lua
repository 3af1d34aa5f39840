-- Where a minted version stands. now, resource
as_primary()
return version_at(ARGV[4], tonumber(ARGV[3]))
