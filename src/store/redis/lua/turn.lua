-- Turns (Q4). t:RESOURCE is who has it: token, instance, fence, name. w:RESOURCE is there while anybody waits for it or
-- it rests: until when it rests, which instance it is offered to and until when, name. l:RESOURCE is the line of
-- instances; it:INSTANCE are the turns of one; `busy` are the resources that have a w:.

-- How long one that was told may take to come for it.
local OFFERED = 2000
-- A line in which nobody asked for so long is forgotten.
local ASKED = 600000
local NOBODY = string.rep('\0', 8)
-- Of a cell that nobody has to look at.
local NEVER = string.rep('0', 16)

local time = call('TIME')
local clock = time[1] * 1000 + math.floor(time[2] / 1000)

local function read(waits)
  return tonumber(sub(waits, 1, 16)), sub(waits, 17, 24), tonumber(sub(waits, 25, 40)), sub(waits, 41)
end

local function keep(res, rest, offered, ends, name)
  local value = string.format('%016.0f', rest) .. offered .. string.format('%016.0f', ends) .. name
  call('SET', p .. 'w:' .. res, value, 'PX', math.max(ASKED, rest - clock))
  call('SADD', p .. 'busy', res)
end

local function forget(res)
  call('DEL', p .. 'w:' .. res)
  call('SREM', p .. 'busy', res)
end

local function offer(res, to, name)
  keep(res, 0, to, clock + OFFERED, name)
  call('PUBLISH', p .. 'to:' .. to, res)
end

-- Who is next: the head of the line, once those are out of it that are dead or did not come.
local function next_in_line(res, offered, ends)
  while true do
    local head = call('LINDEX', p .. 'l:' .. res, 0)
    if not head then return nil end
    local is_late = offered == head and ends <= clock
    if not is_late and call('EXISTS', p .. 'a:' .. head) == 1 then return head end
    call('LPOP', p .. 'l:' .. res)
  end
end

-- Nobody has it any more: whose time it is, is told so.
local function pass_on(res, waits)
  local rest, offered, ends, name = read(waits)
  if rest > clock then return end
  local head = next_in_line(res, offered, ends)
  if not head then
    forget(res)
  elseif head ~= offered then
    offer(res, head, name)
  end
end
