-- An instance lives on (S3): itself or nothing, its next life, for how long. a:INSTANCE is there as long as it is alive,
-- and `alive` has until when by the server's clock, to be found by when it is not. The instance as it was, if that is
-- still alive here, or else another life of it. Then, how many events there were.
as_primary()
local kept = ARGV[3] ~= '' and lives(ARGV[3])
local instance = kept and ARGV[3] or ARGV[4]
call('SET', p .. 'a:' .. instance, '', 'PX', ARGV[5])
call('ZADD', p .. 'alive', clock() + tonumber(ARGV[5]), instance)
return { kept and 1 or 0, tonumber(call('GET', p .. 'eb') or '0') + call('LLEN', p .. 'ev') }
