BEGIN "His"."usp_y"; END;
