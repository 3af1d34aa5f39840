-- The head of a step that is seldom asked for: ARGV[1] is the prefix of all keys, ARGV[2] the epoch that the caller
-- believes in. Another epoch is another history of the store, and whoever is not in it is told so before anything is
-- done (V8). Steps of each write read the epoch along with all else they need, and make no functions that they do not
-- use: every call and every function that a script makes anew costs the server as much as a small command.
local call, sub = redis.call, string.sub
local p, epoch = ARGV[1], ARGV[2]
if call('GET', p .. 'epoch') ~= epoch then
  return redis.error_reply('EPOCH this store has another history')
end

-- Changes nothing, yet only a primary that takes writes does it: what only reads is not answered by another. Where
-- memory is full Redis refuses a script at its first write that needs room; after this one it refuses none.
local function as_primary()
  call('DEL', p .. '-')
end

local function clock()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Whether the others take an instance for alive.
local function lives(instance)
  return call('EXISTS', p .. 'a:' .. instance) == 1
end
