-- The script half of the well-known set-up "stunnel and a script": takes queries over UDP and
-- passes them into stunnel over one TCP connection, and answers back to whoever asked them.
-- It starts anew a second after the connection is lost, as such scripts do.
-- usage: lua5.3 udp_to_tcp.lua UDP_PORT TCP_PORT
local socket = require("socket")
local udp_port, tcp_port = tonumber(arg[1]), tonumber(arg[2])

local function serve(udp, tcp)
  local asked = {} -- by ID: a list of who asked what
  local both = { udp, tcp }
  while true do
    local ready = socket.select(both)
    if ready[udp] then
      local query, host, port = udp:receivefrom()
      if query and #query >= 12 then
        local id = query:sub(1, 2)
        asked[id] = asked[id] or {}
        table.insert(asked[id], { question = query:sub(13), host = host, port = port })
        assert(tcp:send(string.pack(">s2", query)))
      end
    end
    if ready[tcp] then
      local length = string.unpack(">I2", (assert(tcp:receive(2))))
      local answer = length == 0 and "" or assert(tcp:receive(length))
      local waiting = asked[answer:sub(1, 2)] or {}
      for number, one in ipairs(waiting) do
        -- What follows the question in a query (EDNS) is not in the answer at this place.
        local size = one.question:find("\0", 1, true) or #one.question
        if answer:sub(13, 12 + size + 4) == one.question:sub(1, size + 4) then
          udp:sendto(answer, one.host, one.port)
          table.remove(waiting, number)
          break
        end
      end
    end
  end
end

while true do
  local udp, tcp = socket.udp(), socket.tcp()
  local good, problem = pcall(function()
    assert(tcp:connect("127.0.0.1", tcp_port))
    tcp:setoption("tcp-nodelay", true)
    assert(udp:setsockname("127.0.0.1", udp_port))
    serve(udp, tcp)
  end)
  udp:close()
  tcp:close()
  if not good then io.stderr:write(tostring(problem), "\n") end
  socket.sleep(1)
end
