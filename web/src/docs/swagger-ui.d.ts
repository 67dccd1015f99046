/** The part of Swagger UI's bundle that is used; the package brings no types of its own. */
declare module "swagger-ui-dist/swagger-ui-bundle.js" {
  interface Request {
    url: string;
    headers: Record<string, string>;
  }

  export default function SwaggerUIBundle(options: {
    url: string;
    dom_id: string;
    deepLinking: boolean;
    docExpansion: "list" | "full" | "none";
    defaultModelsExpandDepth: number;
    validatorUrl: null;
    requestInterceptor: (request: Request) => Request | Promise<Request>;
  }): void;
}
