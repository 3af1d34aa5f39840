-- What is said to a primary before anything else (V8). Its `run_id` names one history: a start from a file that lacks
-- the last moments, a replica that was promoted and an emptied store are others, with another, higher epoch, in which
-- no number that may have been given is given again.
-- prefix, epoch that the caller believes in, run_id, highest number that it saw, instance, its next life, alive
local call = redis.call
local p, believed = ARGV[1], tonumber(ARGV[2])
call('DEL', p .. '-')
local stands = call('MGET', p .. 'run', p .. 'epoch', p .. 'counter')
local time = call('TIME')
local micros = time[1] * 1000000 + time[2]
local epoch, counter = tonumber(stands[2] or '0'), tonumber(stands[3] or '0')
counter = math.max(counter, tonumber(ARGV[4]))
if stands[1] ~= ARGV[3] or epoch == 0 then
  epoch = math.max(epoch + 1, believed + 1, micros)
  counter = math.max(counter, micros)
end
call('MSET', p .. 'run', ARGV[3], p .. 'epoch', string.format('%.0f', epoch), p .. 'counter',
  string.format('%.0f', counter))

local kept = epoch == believed and ARGV[5] ~= '' and call('EXISTS', p .. 'a:' .. ARGV[5]) == 1
local instance = kept and ARGV[5] or ARGV[6]
call('SET', p .. 'a:' .. instance, '', 'PX', ARGV[7])
call('ZADD', p .. 'alive', time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[7]), instance)
return { epoch, kept and 1 or 0 }
