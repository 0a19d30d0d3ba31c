// One table for the three: which var became what in the environ and in the scope.

import { element } from "./elements.js";
import { valueOf } from "./value.js";

// [var, key of the environ, key of the scope, its part]; headers come after these, found by their names.
const KNOWN = [
  ["REQUEST_METHOD", "REQUEST_METHOD", "method"],
  ["REQUEST_URI", "REQUEST_URI", "raw_path"],
  ["PATH_INFO", "PATH_INFO", "path"],
  ["SCRIPT_NAME", "SCRIPT_NAME", "root_path"],
  ["QUERY_STRING", "QUERY_STRING", "query_string"],
  ["REQUEST_SCHEME", "wsgi.url_scheme", "scheme"],
  ["SERVER_PROTOCOL", "SERVER_PROTOCOL", "http_version"],
  ["REMOTE_ADDR", "REMOTE_ADDR", "client", 0],
  ["REMOTE_PORT", "REMOTE_PORT", "client", 1],
  ["SERVER_NAME", "SERVER_NAME", "server", 0],
  ["SERVER_PORT", "SERVER_PORT", "server", 1],
];
// One for each column; PEP 3333 and the ASGI HTTP specification say so.
const REMARKS = {
  REQUEST_URI: ["as the client sent it", "", "without the query"],
  PATH_INFO: ["decoded once, by Nginx", "the bytes as latin-1", "the bytes as UTF-8"],
  SCRIPT_NAME: ["", "where it is mounted", "where it is mounted"],
};
// A scope has these as headers, though their vars have no HTTP_ before them.
const BODY_HEADERS = ["CONTENT_TYPE", "CONTENT_LENGTH"];

export function comparison(columns) {
  const [vars, environ, scope] = columns.map(({ entries }) => entries ?? {});
  const head = element(
    "tr",
    {},
    ...columns.map(({ title, by }) =>
      element("th", { scope: "col" }, title, " ", element("span", { class: "quiet" }, by)),
    ),
  );
  const rows = rowsOf(vars, environ, scope).map((cells) => {
    const remarks = REMARKS[cells[0][0]] ?? [];
    return element("tr", {}, ...cells.map((cell, index) => cellOf(cell, columns[index].title, remarks[index])));
  });
  return element(
    "table",
    { class: "comparison" },
    element("thead", {}, head),
    element("tbody", {}, ...rows),
  );
}

function rowsOf(vars, environ, scope) {
  const headers = new Map(scope.headers ?? []);
  const known = KNOWN.map(([varName, environKey, scopeKey, part]) => [
    [varName, vars[varName]],
    [environKey, environ[environKey]],
    part === undefined ? [scopeKey, scope[scopeKey]] : [`${scopeKey}[${part}]`, scope[scopeKey]?.[part]],
  ]);
  const seen = new Set(KNOWN.map(([name]) => name));
  const others = [...new Set([...Object.keys(vars), ...Object.keys(environ)])].filter(
    (name) => !seen.has(name) && !name.startsWith("wsgi."),
  );
  const isHeader = (name) => name.startsWith("HTTP_") || BODY_HEADERS.includes(name);
  const withHeader = others.filter(isHeader).map((name) => {
    const header = name.replace(/^HTTP_/, "").replaceAll("_", "-").toLowerCase();
    return [
      [name, vars[name]],
      [name, environ[name]],
      [`headers: ${header}`, headers.get(header)],
    ];
  });
  const withoutHeader = others
    .filter((name) => !isHeader(name))
    .map((name) => [
      [name, vars[name]],
      [name, environ[name]],
      ["", undefined],
    ]);
  return [...known, ...withHeader, ...withoutHeader];
}

function cellOf([name, value], column, remark) {
  const cell = element("td", { "data-column": column });
  if (value === undefined || value === null) {
    cell.append(element("span", { class: "quiet" }, "–"));
    cell.classList.add("absent");
    return cell;
  }
  cell.append(element("span", { class: "name" }, name), valueOf(value));
  if (remark) {
    cell.append(element("span", { class: "remark" }, remark));
  }
  return cell;
}
