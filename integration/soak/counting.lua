-- Counts answers by the class of their status, until a file says that it is enough. Requests after that go to a file of
-- Nginx's own, so that none is on its way to the bridge when wrk stops; each thread writes "over" when that is so.
-- Arguments: the file, and the path of Nginx's own.
local threads = {}

function setup(thread)
  table.insert(threads, thread)
  -- wrk asks the first thread for a request that it does not send (script_verify_request in script.c).
  thread:set("is_tried", #threads == 1)
end

function init(args)
  enough, own_path = args[1], args[2]
  asked, answered, looked = 0, 0, 0
  succeeded, failed, others = 0, 0, 0
  is_over, is_told = false, false
end

function request()
  if is_tried then
    is_tried = false
    return wrk.format("GET", "/")
  end
  if not is_over and asked % 50 == 0 then
    local file = io.open(enough)
    if file then
      file:close()
      is_over = true
    end
  end
  if is_over then
    return wrk.format("GET", own_path)
  end
  asked = asked + 1
  return wrk.format("GET", "/")
end

function response(status, headers, body)
  if headers["ETag"] then -- Nginx's own
    if answered == asked and not is_told then
      is_told = true
      io.write("over\n")
      io.flush()
    end
    return
  end
  answered = answered + 1
  if status == 200 then
    succeeded = succeeded + 1
  elseif status == 502 then
    failed = failed + 1
  else
    others = others + 1
  end
end

function done(summary, latency, requests)
  local sums = {asked = 0, succeeded = 0, failed = 0, others = 0}
  for _, thread in ipairs(threads) do
    for name, sum in pairs(sums) do
      sums[name] = sum + thread:get(name)
    end
  end
  local errors = summary.errors
  io.write(string.format(
    '{"asked": %d, "succeeded": %d, "failed": %d, "others": %d, "broken": %d}\n',
    sums.asked, sums.succeeded, sums.failed, sums.others, errors.connect + errors.read + errors.write + errors.timeout))
end
