// The choice of the interface's language: a cookie that the server reads when it renders a page.

const choice = document.getElementById("language")
choice?.addEventListener("change", () => {
  document.cookie = `textgym_language=${choice.value}; Path=/; SameSite=Strict; Max-Age=31536000`
  location.reload()
})
