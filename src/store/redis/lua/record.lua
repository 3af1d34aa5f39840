-- Records. A value is a head of fixed width, what of a record stays as it is, its state, and its kept answer:
--   1 format  2 phase  3 mark: n none, -, u listed in u:, f followed  4 watched  5-12 owner  13-20 instance
--   21-36 resource  37-44 expires at  45-48 length of what stays  49-52 length of the state
-- i:INSTANCE holds what runs there, `unknown` what is unknown, by its time, and u:RESOURCE, a text of ids, what is
-- unsettled and was not followed (K12).
local RUNS = { C = true, F = true }

local function phase(value) return sub(value, 2, 2) end
local function owner(value) return sub(value, 5, 12) end
local function holder(value) return sub(value, 13, 20) end

-- Without the answer.
local function bare(value)
  local stays, state = struct.unpack('>I4I4', value, 45)
  return sub(value, 1, 52 + stays + state)
end

local function runs_on(value, instance)
  return value and RUNS[phase(value)] and holder(value) == instance
end
