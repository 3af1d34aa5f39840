-- Swaps cells, with what goes with it.
-- now; turn: resource, token, rest; event, how many are kept; swaps
local call, sub = redis.call, string.sub
local p, res, token, rest = ARGV[1], ARGV[4], ARGV[5], tonumber(ARGV[6])
local event, history, puts = ARGV[7], tonumber(ARGV[8]), 9
local got = call('MGET', p .. 'epoch', p .. 't:' .. res, p .. 'w:' .. res, p .. 'ew')
if got[1] ~= ARGV[2] then return redis.error_reply('EPOCH this store has another history') end
local held, waits, awaited = got[2], got[3], got[4]
