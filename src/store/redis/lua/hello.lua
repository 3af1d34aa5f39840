-- What is said to a primary before anything else (V8). Its `run_id` names one history: a start from a file that lacks
-- the last moments, a replica that was promoted and an emptied store are others, with another, higher epoch, in which
-- no number that may have been given is given again.
-- prefix, epoch that the caller believes in, run_id, highest number that it saw, instance, its next life, alive
local p, believed = ARGV[1], tonumber(ARGV[2])
local meta = p .. 'meta'
redis.call('DEL', p .. '-')
local stands = redis.call('HMGET', meta, 'run', 'epoch', 'counter')
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
local epoch, counter = tonumber(stands[2] or '0'), tonumber(stands[3] or '0')
counter = math.max(counter, tonumber(ARGV[4]))
if stands[1] ~= ARGV[3] or epoch == 0 then
  epoch = math.max(epoch + 1, believed + 1, micros)
  counter = math.max(counter, micros)
end
redis.call('HSET', meta, 'run', ARGV[3], 'epoch', string.format('%.0f', epoch),
  'counter', string.format('%.0f', counter))

local function clock() return time[1] * 1000 + math.floor(time[2] / 1000) end
local over = redis.call('ZSCORE', p .. 'alive', ARGV[5])
local kept = epoch == believed and over and tonumber(over) > clock()
redis.call('ZADD', p .. 'alive', clock() + tonumber(ARGV[7]), kept and ARGV[5] or ARGV[6])
return { epoch, kept and 1 or 0 }
