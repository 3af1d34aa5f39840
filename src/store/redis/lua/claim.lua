-- Claims a key; with a resource says of its lease, and with a token and a name asks for its turn.
-- id, now, instance, value; resource; token, name
local call, sub = redis.call, string.sub
local p, id, now, instance, value = ARGV[1], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local res, token, name = ARGV[7], ARGV[8], ARGV[9]
local key = p .. 'r:' .. id
local got
if token then
  got = call('MGET', p .. 'epoch', key, p .. 'a:' .. instance, p .. 'u:' .. sub(value, 21, 36), p .. 't:' .. res,
    p .. 'w:' .. res, p .. 'v:' .. res, p .. 'c:\1' .. res)
elseif res then
  got = call('MGET', p .. 'epoch', key, p .. 'a:' .. instance, p .. 'u:' .. sub(value, 21, 36), p .. 'c:\1' .. res)
else
  got = call('MGET', p .. 'epoch', key, p .. 'a:' .. instance, p .. 'u:' .. sub(value, 21, 36))
end
if got[1] ~= ARGV[2] then return redis.error_reply('EPOCH this store has another history') end
local standing = got[2]
local is_mine = false
if standing then
  local at = sub(standing, 2, 2)
  is_mine = (at == 'C' or at == 'F') and sub(standing, 5, 12) == sub(value, 5, 12)
  local high, low = struct.unpack('>I4I4', standing, 37)
  local expires = high * 4294967296 + low
  if not is_mine and (expires == 0 or expires > now) then
    call('DEL', p .. '-')
    return { 0, standing }
  end
end
if not got[3] then return redis.error_reply('ANEW this instance lapsed') end
if is_mine then
  -- What was done before is written anew: WAIT counts only what its own connection wrote.
  call('SET', p .. 'epoch', ARGV[2])
else
  -- The first write, so that a full Redis refuses it whole.
  call('SET', key, value)
  if standing and sub(standing, 2, 2) == 'U' then call('ZREM', p .. 'unknown', id) end
  if standing and sub(standing, 3, 3) == 'u' then
    local list = p .. 'u:' .. sub(standing, 21, 36)
    local left = string.gsub(call('GET', list) or '', id .. ' ', '')
    if left == '' then call('DEL', list) else call('SET', list, left, 'KEEPTTL') end
  end
  call('SADD', p .. 'i:' .. instance, id)
end
local listed = not is_mine and sub(value, 2, 2) == 'F' and got[4]
local list = p .. 'u:' .. sub(value, 21, 36)
