/** The server's answer for a file of this folder; an error that names the file if it has none. */
export async function fetched(path) {
  const response = await fetch(new URL(path, import.meta.url));
  if (!response.ok) throw new Error(`${path} cannot be fetched: the server answers ${response.status}`);
  return response;
}
