-- Turns (Q4). t:RESOURCE has token, instance, fence and name of who has it, until when it rests, and which instance it
-- is offered to until when; l:RESOURCE is the line of instances; it:INSTANCE are the turns of one; `busy` are the
-- resources that have a t: at all.

-- How long one that was told may take to come for it.
local OFFERED = 2000
-- A line in which nobody asked for so long is forgotten.
local ASKED = 600000

local function forget_idle(res)
  local key = p .. 't:' .. res
  if redis.call('EXISTS', p .. 'l:' .. res) == 0 and not redis.call('HGET', key, 'token') then
    local rests = tonumber(redis.call('HGET', key, 'rest') or '0') - clock()
    if rests > 0 then
      redis.call('PEXPIRE', key, rests)
    else
      redis.call('DEL', key)
      redis.call('SREM', p .. 'busy', res)
    end
  end
end

local function offer(res, to)
  redis.call('HSET', p .. 't:' .. res, 'offer', to, 'until', clock() + OFFERED)
  redis.call('PUBLISH', p .. 'to:' .. to, res)
end

-- Who is next: the head of the line, once those are out of it that are dead or did not come.
local function next_in_line(res)
  local line = p .. 'l:' .. res
  local offered = redis.call('HMGET', p .. 't:' .. res, 'offer', 'until')
  while true do
    local head = redis.call('LINDEX', line, 0)
    if not head then return nil, nil end
    local is_late = offered[1] == head and tonumber(offered[2]) <= clock()
    if lives(head) and not is_late then
      return head, offered[1]
    end
    redis.call('LPOP', line)
  end
end

-- Nobody has it any more: whose time it is, is told so.
local function pass_on(res)
  local rest = redis.call('HMGET', p .. 't:' .. res, 'token', 'rest')
  if not rest[1] and tonumber(rest[2] or '0') <= clock() then
    local head, offered = next_in_line(res)
    if head and offered ~= head then offer(res, head) end
  end
  forget_idle(res)
end

local function end_turn(res, token, rest)
  local key = p .. 't:' .. res
  local held = redis.call('HMGET', key, 'token', 'instance')
  if held[1] ~= token then return end
  redis.call('SREM', p .. 'it:' .. held[2], res)
  redis.call('HDEL', key, 'token', 'instance', 'fence')
  if rest > 0 then redis.call('HSET', key, 'rest', clock() + rest) end
  pass_on(res)
end

-- { 0, fence, first number, version } granted, { 1 } busy, { 2, rest } rests.
local function granted(res, fence, now)
  local first = number(fence and 2 or 3)
  if not fence then
    fence, first = first, first + 1
  end
  return { 0, fence, first, version_at(res, now) }
end

local function take(res, token, instance, name, now)
  local key, line = p .. 't:' .. res, p .. 'l:' .. res
  local stands = redis.call('HMGET', key, 'token', 'fence', 'rest')
  if stands[1] == token then
    return granted(res, tonumber(stands[2]), now)
  end
  local rests = tonumber(stands[3] or '0') - clock()
  if not stands[1] and rests <= 0 then
    local head, offered = next_in_line(res)
    if not head or head == instance then
      if head then redis.call('LPOP', line) end
      local grant = granted(res, nil, now)
      redis.call('HSET', key, 'token', token, 'instance', instance, 'name', name,
        'fence', string.format('%.0f', grant[2]))
      redis.call('HDEL', key, 'rest', 'offer', 'until')
      redis.call('PERSIST', key)
      redis.call('SADD', p .. 'it:' .. instance, res)
      redis.call('SADD', p .. 'busy', res)
      return grant
    end
    if offered ~= head then offer(res, head) end
  end
  if not redis.call('LPOS', line, instance) then
    redis.call('RPUSH', line, instance)
    redis.call('HSET', key, 'name', name)
    redis.call('PERSIST', key)
    redis.call('SADD', p .. 'busy', res)
  end
  redis.call('PEXPIRE', line, ASKED)
  if rests > 0 then return { 2, rests } end
  return { 1 }
end
