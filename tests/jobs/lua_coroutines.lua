-- Lua: coroutines, metatables, string patterns, errors, weak tables and finalizers for its collector.
local scale = tonumber(os.getenv("ZAP_JOB_SCALE") or "1")
local rounds = math.floor(180 * scale)

local function numbers(state)
  return coroutine.wrap(function()
    while true do
      state = (state * 1103515245 + 12345) & 0x7fffffff
      coroutine.yield(state >> 8)
    end
  end)
end

local function mix(sum, text)
  for i = 1, #text, 7 do
    sum = (sum * 31 + text:byte(i)) % 1000000007
  end
  return sum
end

local Vector = {}
Vector.__index = Vector
Vector.__add = function(a, b) return setmetatable({ a[1] + b[1], a[2] + b[2] }, Vector) end
Vector.__eq = function(a, b) return a[1] == b[1] and a[2] == b[2] end
Vector.__tostring = function(v) return "(" .. v[1] .. ", " .. v[2] .. ")" end

local next_number, total, finalized, caught = numbers(4711), 7, 0, 0
local words = {}
for round = 1, rounds do
  local parts = {}
  for i = 1, 8000 do
    parts[i] = string.format("%x", next_number())
  end
  local text = table.concat(parts, " ")
  for first, rest in text:gmatch("%f[%w]([a-f])(%w+)") do
    words[first] = words[first] or {}
    words[first][rest] = (words[first][rest] or 0) + 1
  end
  total = mix(total, (text:gsub("%f[%w]%a", string.upper)))
  table.sort(parts, function(a, b) return #a < #b or (#a == #b and a < b) end)
  total = mix(total, table.concat(parts, ",", 1, 200))
  local sum = setmetatable({ 0, 0 }, Vector)
  for i = 1, 20000 do
    sum = sum + setmetatable({ i, round }, Vector)
  end
  total = mix(total, tostring(sum))
  local weak = setmetatable({}, { __mode = "k" })
  for i = 1, 500 do
    weak[setmetatable({}, { __gc = function() finalized = finalized + 1 end })] = i
  end
  local worker = coroutine.create(function(a)
    for i = 1, 500 do
      a = (a * 17 + coroutine.yield(a)) % 65521
    end
    error({ round = round, a = a })
  end)
  local ok, value = coroutine.resume(worker, round)
  while ok do
    ok, value = coroutine.resume(worker, value)
  end
  total, caught = mix(total, value.round .. " " .. value.a), caught + 1
  if round % 20 == 0 then
    collectgarbage()
    print(string.format("round %d: %d", round, total))
    io.stdout:flush()
  end
end
collectgarbage()
local kinds = {}
for first, rests in pairs(words) do
  for rest, count in pairs(rests) do
    kinds[#kinds + 1] = first .. rest .. count
  end
end
table.sort(kinds)
print(string.format("result: %d kinds, %d caught, %d finalized, %d", #kinds, caught, finalized, mix(total, table.concat(kinds))))
os.exit(27)
