-- The head of every step: ARGV[1] is the prefix of all keys, ARGV[2] the epoch that the caller believes in. Another
-- epoch is another history of the store, and whoever is not in it is told so before anything is done (V8).
local p, epoch = ARGV[1], ARGV[2]
if redis.call('HGET', p .. 'meta', 'epoch') ~= epoch then
  return redis.error_reply('EPOCH this store has another history')
end

-- Changes nothing, yet only a primary that takes writes does it: what only reads is not answered by another. Where
-- memory is full Redis refuses a script at its first write that needs room; after this one it refuses none.
local function as_primary()
  redis.call('DEL', p .. '-')
end

-- What was done before is written anew: WAIT counts only what its own connection wrote.
local function done_before()
  redis.call('HSET', p .. 'meta', 'epoch', epoch)
end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whether the others take an instance for alive.
local function lives(instance)
  local over = redis.call('ZSCORE', p .. 'alive', instance)
  return over and tonumber(over) > clock()
end

local function lapsed_myself()
  return redis.error_reply('ANEW this instance lapsed')
end
