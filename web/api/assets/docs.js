// A script of its own, because the page's Content-Security-Policy allows none within it.
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null, // otherwise the description is sent to somebody else's validator
});
