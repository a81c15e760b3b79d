-- For wrk: requests in turn, from a file with a line for each (method, path, token). After the file's name, a number is how
-- many bytes each request brings, and `close` asks for a new connection each time.
local requests, turn = {}, 0

function init(args)
  local headers, body = { ["Host"] = wrk.host .. ":" .. wrk.port, ["User-Agent"] = "bench/1" }, nil
  for i = 2, #args do
    if args[i] == "close" then headers["Connection"] = "close" else body = string.rep("x", tonumber(args[i])) end
  end
  for line in io.lines(args[1]) do
    local method, path, token = line:match("(%S+) (%S+) (%S+)")
    headers["Authorization"] = "Bearer " .. token
    requests[#requests + 1] = wrk.format(method, path, headers, body)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end
