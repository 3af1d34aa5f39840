if not token then
  local lease = got[5]
  if not lease then return { 1 } end
  local due = tonumber(sub(lease, 9, 24))
  if due > 0 then
    local time = call('TIME')
    due = math.max(due - time[1] * 1000 - math.floor(time[2] / 1000), 0)
  else
    due = -1
  end
  return { 1, { sub(lease, 1, 8), due, sub(lease, 25) } }
end
local held, waits, version, lease = got[5], got[6], got[7], got[8]
