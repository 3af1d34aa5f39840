-- What goes with a step of a record.
if not of then return reply end
if tells and ARGV[23] ~= '' then
  local words = p .. 'o:' .. id
  call('LPUSH', words, ARGV[23])
  call('LTRIM', words, 0, 99)
  if call('PTTL', words) < tonumber(ARGV[24]) then call('PEXPIRE', words, ARGV[24]) end
end
local moves, version = tells and of ~= '', got[3]
local to, later_at, later, ends_rest = tonumber(ARGV[16]), tonumber(ARGV[17]), tonumber(ARGV[18]), ARGV[19] == '1'
local held, waits, awaited = got[4], got[5], got[6]
local token, rest, event, history = ARGV[21], tonumber(ARGV[22]), ARGV[25], tonumber(ARGV[26])
