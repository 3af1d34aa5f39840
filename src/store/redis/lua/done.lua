-- A page of what is done, wherever a walk over all keys meets it: where it goes on, then id, record. cursor, most
as_primary()
local head = p .. 'r:'
local page = call('SCAN', ARGV[3], 'MATCH', string.gsub(head, '[%*%?%[%]\\]', '\\%0') .. '*', 'COUNT', 1000)
local found = { page[1] }
for _, key in ipairs(page[2]) do
  if #found > tonumber(ARGV[4]) then break end
  local value = call('GET', key)
  if value and phase(value) == 'D' then
    found[#found + 1] = { sub(key, #head + 1), bare(value) }
  end
end
return found
