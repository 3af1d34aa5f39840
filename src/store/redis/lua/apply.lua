-- The step of a record itself.
if fit and fit ~= 1 then done = fit end
if done == 1 and set == 'R' and runs and call('EXISTS', p .. 'a:' .. ARGV[8]) == 0 then
  return redis.error_reply('ANEW this instance lapsed')
end
local tells, reply = done == 1, { done }
if tells then
  if swap then swap() end
  local was = sub(standing, 3, 3)
  local from = ran and sub(standing, 13, 20)
  local to = runs and sub(set == 'R' and given or standing, 13, 20)
  if from and from ~= to then call('SREM', p .. 'i:' .. from, id) end

  -- That another write has gone to the resource is not forgotten, whatever the record becomes (K12).
  local mark, list = new and sub(set == 'S' and head or given, set == 'S' and 2 or 3, set == 'S' and 2 or 3), nil
  if mark == '-' and (was == 'f' or was == 'u') then
    mark = was
  elseif mark == '-' and new == 'U' then
    mark, list = 'u', p .. 'u:' .. sub(standing, 21, 36)
  end
  local watched = sub(standing, 4, 4)

  if not new then
    call('DEL', key)
  else
    local value
    local begins = '1' .. new .. mark .. (runs and watched or '-')
    if set == 'S' then
      local stays = sub(standing, 45, 48)
      value = begins .. sub(standing, 5, 36) .. ARGV[10] .. stays .. struct.pack('>I4', #given)
        .. sub(standing, 53, 52 + struct.unpack('>I4', stays)) .. given .. ARGV[12]
      -- Who ended it knows all but what it was.
      if new == 'D' then reply[2] = standing end
    else
      value = begins .. sub(given, 5) .. ARGV[12]
      if list then list = p .. 'u:' .. sub(given, 21, 36) end
    end
    if life > 0 then
      call('SET', key, value, 'PX', life)
    else
      call('SET', key, value)
    end
    if to and to ~= from then call('SADD', p .. 'i:' .. to, id) end
    if new == 'U' then
      local high, low = struct.unpack('>I4I4', value, 37)
      call('ZADD', p .. 'unknown', high * 4294967296 + low, id)
    end
    if list then
      call('APPEND', list, id .. ' ')
      if call('PTTL', list) < life then call('PEXPIRE', list, life) end
    end
  end
  if at == 'U' and new ~= 'U' then call('ZREM', p .. 'unknown', id) end
  if was == 'u' and mark ~= 'u' then
    local was_on = p .. 'u:' .. sub(standing, 21, 36)
    local left = string.gsub(call('GET', was_on) or '', id .. ' ', '')
    if left == '' then call('DEL', was_on) else call('SET', was_on, left, 'KEEPTTL') end
  end
  if watched == 'w' and not runs then call('PUBLISH', p .. 'ended', id) end
else
  -- Only a primary answers, and where memory is full what follows is not refused.
  call('DEL', p .. '-')
  -- What was done before is written anew: WAIT counts only what its own connection wrote.
  if done == 2 then call('SET', p .. 'epoch', ARGV[2]) end
end

local list = tells and new and ARGV[14] == '1'
  and p .. 'u:' .. sub(set == 'R' and given or standing, 21, 36)
local listed = list and call('GET', list)
