-- Moves a minted version without a record. now, resource, to, when later, where to later, whether it ends the rest
local call = redis.call
local p, now, of = ARGV[1], tonumber(ARGV[3]), ARGV[4]
local to, later_at, later, ends_rest = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
local got = call('MGET', p .. 'epoch', p .. 'v:' .. of)
if got[1] ~= ARGV[2] then return redis.error_reply('EPOCH this store has another history') end
local version, moves = got[2], true
