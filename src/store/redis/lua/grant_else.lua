-- The same where a lease is held, a version is still to move, others wait or the resource rests.
local function granted()
  local at, later_at, later = tonumber(version or '0'), 0, 0
  if not at then
    at, later_at, later = string.match(version, '^(%d+) (%d+) (%d+)$')
    at = tonumber(later_at) <= now and tonumber(later) or tonumber(at)
  end
  local grant = { 0, fence, fence + 1, at }
  if lease then
    local due = sub(lease, 9, 24)
    grant[5], grant[7] = sub(lease, 1, 8), sub(lease, 25)
    grant[6] = due == NEVER and -1 or math.max(tonumber(due) - clock, 0)
  end
  return { 1, grant }
end

if fence then return granted() end
local rest, offered, ends, known = 0, NOBODY, 0, name
if waits then rest, offered, ends, known = read(waits) end
if not held and rest <= clock then
  local head = next_in_line(res, offered, ends)
  if not head or head == instance then
    -- The first write that needs room, so that a full Redis refuses it before anything is changed.
    fence = call('INCRBY', p .. 'counter', 3) - 2
    if head then call('LPOP', p .. 'l:' .. res) end
    call('SET', p .. 't:' .. res, token .. instance .. string.format('%016.0f', fence) .. name)
    call('SADD', p .. 'it:' .. instance, res)
    if call('EXISTS', p .. 'l:' .. res) == 1 then
      keep(res, 0, NOBODY, 0, known)
    else
      forget(res)
    end
    return granted()
  end
  if offered ~= head then
    offer(res, head, known)
    rest, offered, ends = 0, head, clock + OFFERED
  end
end
if not call('LPOS', p .. 'l:' .. res, instance) then call('RPUSH', p .. 'l:' .. res, instance) end
call('PEXPIRE', p .. 'l:' .. res, ASKED)
keep(res, rest, offered, ends, known)
if not held and rest > clock then return { 1, { 2, rest - clock } } end
return { 1, { 1 } }
