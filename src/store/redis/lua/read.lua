-- A record without its answer; the caller judges its time. id, whether its end is to be told
local call, sub = redis.call, string.sub
local p = ARGV[1]
local key = p .. 'r:' .. ARGV[3]
local got = call('MGET', p .. 'epoch', key)
if got[1] ~= ARGV[2] then return redis.error_reply('EPOCH this store has another history') end
call('DEL', p .. '-')
local value = got[2]
if not value then return false end
local at = sub(value, 2, 2)
if ARGV[4] == '1' and (at == 'C' or at == 'F' or at == 'Q') then call('SETRANGE', key, 3, 'w') end
local stays, state = struct.unpack('>I4I4', value, 45)
return sub(value, 1, 52 + stays + state)
