-- A task that was given up goes to the dead-letter stream and out of the group, both or neither, and once. KEYS: the
-- stream, the dead-letter stream. ARGV: the group, the entry, its attempts, its content.
if #redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[2], ARGV[2], 1) == 0 then
  return 0
end
local entry = redis.call('XRANGE', KEYS[1], ARGV[2], ARGV[2])[1]
local fields = entry and entry[2]
-- It was trimmed away, or has more fields than a call may have words.
if not fields or #fields > 4000 then
  fields = { 'task', ARGV[4] }
end
for _, word in ipairs({ 'onceward_task', ARGV[2], 'onceward_attempts', ARGV[3] }) do
  fields[#fields + 1] = word
end
redis.call('XADD', KEYS[2], '*', unpack(fields))
return redis.call('XACK', KEYS[1], ARGV[1], ARGV[2])
