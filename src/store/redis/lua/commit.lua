-- One step of a record, with all that goes with it. What a value is stands in lua/record.lua.
-- id, now, owner, before (C, F, R either, U), set (S state, R replace, X remove), instance,
-- S: phase and mark, time of expiry, state; R: the value; then the answer, for how long it is kept,
-- whether a write goes out. Where more goes with it, version: resource, to, when later, where to later, whether it ends
-- the rest; turn: resource, token, rest; resolution, for how long it is kept; event, how many are kept; swaps of cells
local call, sub = redis.call, string.sub
local p, id, now, mine, before, set = ARGV[1], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7]
local head, given, life = ARGV[9], ARGV[11], tonumber(ARGV[13])
local of, res, puts = ARGV[15], ARGV[20] or '', 27
local key = p .. 'r:' .. id
local got
if of then
  got = call('MGET', p .. 'epoch', key, p .. 'v:' .. of, p .. 't:' .. res, p .. 'w:' .. res, p .. 'ew')
else
  got = call('MGET', p .. 'epoch', key)
end
if got[1] ~= ARGV[2] then return redis.error_reply('EPOCH this store has another history') end
local standing = got[2]
local at = standing and sub(standing, 2, 2)
local ran = at == 'C' or at == 'F'
local new = set == 'S' and sub(head, 1, 1) or set == 'R' and sub(given, 2, 2)
local runs = new == 'C' or new == 'F'

-- 0 it is not its owner's, 1 to be done, 2 done before.
local done = 0
if not standing then
  if set == 'X' then done = 2 end
else
  local by = sub(standing, 5, 12)
  local fits = before == at or before == 'R' and ran
    or before == 'F' and at == 'U' and (set ~= 'S' or new == 'D')
  if by == mine and fits then
    done = 1
  elseif set == 'S' and by == mine and at == new or set == 'R' and by == sub(given, 5, 12) then
    done = 2
  end
end
