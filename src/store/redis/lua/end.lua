-- Ends a turn. resource, token, rest
local call, sub = redis.call, string.sub
local p, res, token, rest = ARGV[1], ARGV[3], ARGV[4], tonumber(ARGV[5])
local got = call('MGET', p .. 'epoch', p .. 't:' .. res, p .. 'w:' .. res)
if got[1] ~= ARGV[2] then return redis.error_reply('EPOCH this store has another history') end
call('DEL', p .. '-')
local held, waits, reply = got[2], got[3], 1
