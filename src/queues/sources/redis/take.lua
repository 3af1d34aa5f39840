-- Entries for who waits, in one round trip. KEYS: the stream. ARGV: the group, the consumer, the visibility (ms), how many,
-- whether to look first (1) for entries that somebody took and never acknowledged, and where the last such look ended.
-- Returns where this look ended, and the entries.
local found, cursor = {}, ARGV[6]

-- A long list of pending entries is looked through in steps, each of which a server takes in no time.
local function pending()
  for _ = 1, 500 do
    local most = tonumber(ARGV[4]) - #found
    if most <= 0 then
      return
    end
    local said = redis.call('XAUTOCLAIM', KEYS[1], ARGV[1], ARGV[2], ARGV[3], cursor, 'COUNT', most)
    cursor = said[1]
    for _, entry in ipairs(said[2]) do
      -- Redis 6.2 tells of entries that were trimmed away as nothing.
      if entry and entry[2] then
        found[#found + 1] = entry
      end
    end
    if cursor == '0-0' then
      return
    end
  end
end

if ARGV[5] == '1' then
  pending()
end
local most = tonumber(ARGV[4]) - #found
if most > 0 then
  local said =
    redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', most, 'STREAMS', KEYS[1], '>')
  if said then
    for _, entry in ipairs(said[1][2]) do
      found[#found + 1] = entry
    end
  end
end
if ARGV[5] ~= '1' then
  pending()
end
return { cursor, found }
