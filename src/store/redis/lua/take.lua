-- Asks for a turn. now, instance, resource, token, name
local call, sub = redis.call, string.sub
local p, now, instance, res, token, name = ARGV[1], tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local got = call('MGET', p .. 'epoch', p .. 'a:' .. instance, p .. 't:' .. res, p .. 'w:' .. res, p .. 'v:' .. res,
  p .. 'c:\1' .. res)
if got[1] ~= ARGV[2] then return redis.error_reply('EPOCH this store has another history') end
if not got[2] then return redis.error_reply('ANEW this instance lapsed') end
local held, waits, version, lease = got[3], got[4], got[5], got[6]
